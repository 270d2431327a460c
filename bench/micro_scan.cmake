add_executable(micro_scan micro_scan.c)
target_link_libraries(micro_scan PRIVATE tw_flags tw_wire tw_model tw_base)
target_include_directories(micro_scan PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
