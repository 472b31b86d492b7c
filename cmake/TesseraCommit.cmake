# Writes the commit of this tree into a header at configure time; results and logs carry it.
find_package(Git QUIET)
set(TESSERA_COMMIT "unknown")
if(Git_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${CMAKE_SOURCE_DIR} describe --always --dirty --abbrev=12
                  OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed)
    set(TESSERA_COMMIT ${found})
  endif()
endif()
