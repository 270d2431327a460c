add_executable(micro_append ${CMAKE_CURRENT_LIST_DIR}/micro_append.c)
target_link_libraries(micro_append PRIVATE tw_flags tw_buffer)
