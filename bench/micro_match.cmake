add_executable(micro_match ${CMAKE_CURRENT_LIST_DIR}/micro_match.c)
target_link_libraries(micro_match PRIVATE tw_flags tw_rules tw_model tw_base)
