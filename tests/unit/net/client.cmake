# Tests of the client side of src/net. They look at its private headers where a function is not public.
foreach(what parts grpc http tls memory)
  tw_test(unit_net_client_${what} SOURCES client_${what}_test.c client_peer.c client_certs.c DEPS net)
  target_include_directories(unit_net_client_${what} PRIVATE ${PROJECT_SOURCE_DIR}/src/net)
endforeach()
