add_executable(micro_engine ${CMAKE_CURRENT_LIST_DIR}/micro_engine.c ${CMAKE_CURRENT_LIST_DIR}/drive.c
               ${CMAKE_CURRENT_LIST_DIR}/load/process.c)
target_link_libraries(micro_engine PRIVATE tw_flags tw_engine tw_load_body m)
target_include_directories(micro_engine PRIVATE ${CMAKE_CURRENT_LIST_DIR} ${PROJECT_SOURCE_DIR}/src/engine
                           ${PROJECT_SOURCE_DIR}/tests/support)
# Instructions are counted of what is shipped: gcc's release build.
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND NOT TW_SANITIZE)
  add_test(NAME instructions COMMAND ${TW_PYTHON3} ${CMAKE_CURRENT_LIST_DIR}/instructions $<TARGET_FILE:micro_engine>)
  set_tests_properties(instructions PROPERTIES LABELS instructions)
endif()
