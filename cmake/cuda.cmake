# Finds a CUDA compiler, and its architectures from 75 up; then the target _cuda.

set(MIXPRIV_LEAST_CUDA 12.4)

if(MIXPRIV_CUDA STREQUAL "OFF")
    return()
endif()

# CMake's own trial build would choose architectures that new compilers have dropped.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    set(CMAKE_CUDA_ARCHITECTURES 75)
    set(MIXPRIV_ALL_ARCHITECTURES TRUE)
endif()
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(found "${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}")
else()
    set(found "none")
endif()
if(NOT CMAKE_CUDA_COMPILER OR CMAKE_CUDA_COMPILER_VERSION VERSION_LESS MIXPRIV_LEAST_CUDA)
    if(MIXPRIV_CUDA STREQUAL "ON")
        message(FATAL_ERROR "mixpriv: expected a CUDA compiler from ${MIXPRIV_LEAST_CUDA}, found ${found}; "
                            "name one in CMAKE_CUDA_COMPILER or CUDACXX, or set MIXPRIV_CUDA=OFF")
    endif()
    message(STATUS "mixpriv: no CUDA extension, found ${found}")
    return()
endif()

# Machine code for all that this compiler knows, and PTX of the newest for GPUs that are newer still.
if(MIXPRIV_ALL_ARCHITECTURES)
    execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-arch OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "[0-9]+" listed "${listed}")
    list(REMOVE_DUPLICATES listed)
    list(SORT listed COMPARE NATURAL)
    set(CMAKE_CUDA_ARCHITECTURES "")
    foreach(architecture IN LISTS listed)
        if(architecture GREATER_EQUAL 75)
            list(APPEND CMAKE_CUDA_ARCHITECTURES ${architecture}-real)
            set(newest ${architecture})
        endif()
    endforeach()
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
endif()
message(STATUS "mixpriv: CUDA extension by ${found} for ${CMAKE_CUDA_ARCHITECTURES}")

set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static) # imports without a driver, and says then what is missing

pybind11_add_module(_cuda MODULE NO_EXTRAS
    csrc/cuda/classes.cu
    csrc/cuda/memory.cu
    csrc/cuda/mix.cu
    csrc/cuda/range.cu
    csrc/cuda/resample.cu
    csrc/cuda/warp.cu
    csrc/cuda/python/call.cpp
    csrc/cuda/python/device_array.cpp
    csrc/cuda/python/module.cpp
)
string(REPLACE ";" " " architectures "${CMAKE_CUDA_ARCHITECTURES}")
target_include_directories(_cuda PRIVATE csrc csrc/include)
target_include_directories(_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_link_libraries(_cuda PRIVATE Threads::Threads)
target_compile_definitions(_cuda PRIVATE
    MIXPRIV_CUDA_MODULE=_cuda "MIXPRIV_CUDA_ARCHITECTURES=\"${architectures}\"")
if(NOT MSVC)
    set(host_warnings -Wall -Wextra -ffp-contract=off)
    # -fmad=false: products and sums must not fuse, or a mixture would differ from the CPU's.
    string(REPLACE ";" "," nvcc_host "${host_warnings}")
    target_compile_options(_cuda PRIVATE
        $<$<COMPILE_LANGUAGE:CXX>:${host_warnings}>
        $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -Xcompiler=${nvcc_host}>)
endif()
