# SPDX-License-Identifier: Apache-2.0
#
# cmake -DFROM=<file> -DTO=<file.c> -DNAME=<symbol> -P embed.cmake
#
# Makes a C file with the bytes of FROM, NUL behind.

file(READ ${FROM} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${TO} "extern const char ${NAME}[];\nconst char ${NAME}[] = {${bytes}0};\n")
