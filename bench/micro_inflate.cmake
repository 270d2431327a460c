add_executable(micro_inflate micro_inflate.c)
target_link_libraries(micro_inflate PRIVATE tw_flags tw_load_body tw_net tw_base PkgConfig::zlib)
