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
  if(EXISTS ${CMAKE_SOURCE_DIR}/include/tessera/${name}.h)  # everything of the floor in one header
    file(CREATE_LINK ${CMAKE_SOURCE_DIR}/include/tessera/${name}.h ${view}/tessera/${name}.h SYMBOLIC)
  endif()
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

# tessera_test(NAME SOURCES ... [DEPENDS floors...] [THREADS]): the executable tessera_test_NAME, every case known to
# ctest. THREADS: its cases share data between threads; they get the label that the thread sanitizer's run asks for.
function(tessera_test name)
  cmake_parse_arguments(TEST "THREADS" "" "SOURCES;DEPENDS" ${ARGN})
  set(label "")
  if(TEST_THREADS)
    set(label LABELS threads)
  endif()
  # Files of tests lie in the build folder: two builds can be tested at the same time.
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/test-files)
  set(environment ENVIRONMENT "TEST_TMPDIR=${CMAKE_BINARY_DIR}/test-files")
  if(TESSERA_SANITIZE MATCHES "thread")  # a property of its own: a list in ENVIRONMENT loses all but its first entry on the way
    set(suppressions "${CMAKE_SOURCE_DIR}/tests/tsan-suppressions.txt")
    list(APPEND environment ENVIRONMENT_MODIFICATION "TSAN_OPTIONS=set:suppressions=${suppressions}")
  endif()
  add_executable(tessera_test_${name} ${TEST_SOURCES})
  foreach(dependency IN LISTS TEST_DEPENDS)
    target_link_libraries(tessera_test_${name} PRIVATE tessera_${dependency})
  endforeach()
  target_link_libraries(tessera_test_${name} PRIVATE GTest::gtest GTest::gmock GTest::gtest_main)
  target_include_directories(tessera_test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/tests)
  target_compile_definitions(tessera_test_${name} PRIVATE TESSERA_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  tessera_warnings(tessera_test_${name})
  gtest_discover_tests(tessera_test_${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600 ${label}
                       ${environment})
endfunction()

if(TESSERA_SANITIZE)
  add_compile_options(-fsanitize=${TESSERA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TESSERA_SANITIZE})
  # Every SIMD target costs minutes of compilation under a sanitizer; AVX2 and the oldest stand for all of x86.
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    add_compile_definitions("HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4|HWY_AVX3|HWY_AVX3_DL)")
  endif()
endif()
