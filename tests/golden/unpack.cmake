# SPDX-License-Identifier: Apache-2.0
#
# cmake -DFROM=<stored vectors> -DTO=<directory> -DZSTD=<program> -P unpack.cmake
#
# Copies the golden vectors and unpacks every *.zst beside itself, as their README asks for.

file(REMOVE_RECURSE ${TO})
file(COPY ${FROM}/ DESTINATION ${TO})
file(GLOB_RECURSE packed ${TO}/*.zst)
foreach(f ${packed})
	string(REGEX REPLACE "\\.zst$" "" plain ${f})
	execute_process(COMMAND ${ZSTD} -q -d -f -o ${plain} ${f} RESULT_VARIABLE failed)
	if(failed)
		message(FATAL_ERROR "cannot unpack ${f}: ${failed}")
	endif()
endforeach()

file(STRINGS ${TO}/UNPACKED.sha256 sums)
foreach(line ${sums})
	string(REGEX MATCH "^([0-9a-f]+)  (.+)$" _ "${line}")
	file(SHA256 ${TO}/${CMAKE_MATCH_2} got)
	if(NOT got STREQUAL CMAKE_MATCH_1)
		message(FATAL_ERROR "golden vector ${CMAKE_MATCH_2} has the wrong checksum")
	endif()
endforeach()
