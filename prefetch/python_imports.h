/* SPDX-License-Identifier: Apache-2.0 */
/*
 * python_imports.h - import statements that run when a Python file is loaded; pure
 *
 * No parser of the language: logical lines, their indentation, and the two statements. Bodies of
 * functions and classes are left out, and so are branches for type checkers, for other operating
 * systems, and (but for the script itself) for __main__.
 */
#ifndef HS_PREFETCH_PYTHON_IMPORTS_H
#define HS_PREFETCH_PYTHON_IMPORTS_H

#include <stdbool.h>
#include <stddef.h>

#define PYTHON_MAX_BYTES (4u << 20)

/*
 * @level: dots before the module; @module: "a.b", may be "" with dots; @name: what is taken from
 * it, NULL for a plain import, "*" for everything; strings of at most 255 bytes
 */
typedef int python_import_fn(void *arg, unsigned int level, const char *module, const char *name);

/* python_imports - @script: it runs as __main__; returns 0 or what @fn returned */
int python_imports(const char *p, size_t bytes, bool script, python_import_fn *fn, void *arg);

#endif
