add_executable(micro_count ${CMAKE_CURRENT_LIST_DIR}/micro_count.c)
target_link_libraries(micro_count PRIVATE tw_flags tw_metrics)
