# Given to CMake as CMAKE_PROJECT_INCLUDE when the ROS 2 packages come from pip.
#
# Their CMake files name include directories of the machine that built them, and CMake refuses to
# generate as soon as one of those does not exist here. Once the project has been read, this takes
# such directories out of every imported target.

function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(kept "")
    foreach(directory IN LISTS directories)
      if(directory MATCHES "^\\$<" OR EXISTS "${directory}")
        list(APPEND kept "${directory}")
      endif()
    endforeach()
    set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

cmake_language(DEFER CALL drop_missing_include_directories)
