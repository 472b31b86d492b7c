# tessera_floor(NAME SOURCES ... [DEPENDS floors...] [LIBRARIES external...])
#
# Declares the static library tessera_NAME with namespace tessera::NAME, public headers in include/tessera/NAME/.
# The public include folder of a floor is reachable only through its target, so a floor cannot include a floor that it
# does not list.
function(tessera_floor name)
  cmake_parse_arguments(FLOOR "" "" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  add_library(tessera_${name} STATIC ${FLOOR_SOURCES})
  # Each floor sees include/tessera/NAME through a private view of the include tree that holds only its own folder.
  set(view ${CMAKE_BINARY_DIR}/include-views/${name})
  file(MAKE_DIRECTORY ${view}/tessera)
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/include/tessera/${name} ${view}/tessera/${name} SYMBOLIC)
  target_include_directories(tessera_${name} PUBLIC ${view} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  foreach(dependency IN LISTS FLOOR_DEPENDS)
    target_link_libraries(tessera_${name} PUBLIC tessera_${dependency})
  endforeach()
  target_link_libraries(tessera_${name} PUBLIC ${FLOOR_LIBRARIES})
  tessera_warnings(tessera_${name})
endfunction()

function(tessera_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wno-psabi -Wno-missing-field-initializers)
endfunction()

# tessera_test(NAME SOURCES ... [DEPENDS floors...]): the executable tessera_test_NAME, every case known to ctest.
function(tessera_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(tessera_test_${name} ${TEST_SOURCES})
  foreach(dependency IN LISTS TEST_DEPENDS)
    target_link_libraries(tessera_test_${name} PRIVATE tessera_${dependency})
  endforeach()
  target_link_libraries(tessera_test_${name} PRIVATE GTest::gtest GTest::gmock GTest::gtest_main)
  target_include_directories(tessera_test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(tessera_test_${name} PRIVATE TESSERA_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  tessera_warnings(tessera_test_${name})
  gtest_discover_tests(tessera_test_${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600)
endfunction()

if(TESSERA_SANITIZE)
  add_compile_options(-fsanitize=${TESSERA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TESSERA_SANITIZE})
endif()
