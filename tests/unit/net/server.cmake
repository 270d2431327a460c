# The server's tests look inside: time is swept by hand, and gRPC's parts are tried alone.
function(net_server_test what)
  tw_test(unit_net_server_${what} SOURCES server_${what}_test.c server_peer.c DEPS net
          LIBS PkgConfig::nghttp2 PkgConfig::zlib PkgConfig::zstd)
  target_include_directories(unit_net_server_${what} PRIVATE ${PROJECT_SOURCE_DIR}/src/net)
endfunction()
foreach(what inflate grpc http1 http2 flood life)
  net_server_test(${what})
endforeach()
