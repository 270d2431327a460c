add_executable(micro_json micro_json.c)
target_link_libraries(micro_json PRIVATE tw_flags tw_load_body tw_wire tw_model tw_base)
