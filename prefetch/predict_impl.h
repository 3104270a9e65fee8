/* SPDX-License-Identifier: Apache-2.0 */
/*
 * predict_impl.h - the growing list, and what the image was already asked
 *
 * Every look-up is remembered, so that the finders may ask freely. An error of the image itself
 * sticks in @rc and ends the finding; what is merely not there is an answer. Images may be made to
 * be looked through forever: what that may cost sticks in @spent and ends it as well, with what was
 * found so far. So every loop over what an image says asks predict_over().
 */
#ifndef HS_PREFETCH_PREDICT_IMPL_H
#define HS_PREFETCH_PREDICT_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imagefs.h"
#include "ldcache.h"
#include "predict.h"

struct oci_config;

#define PREDICT_LOOKUPS	    400000u
#define PREDICT_QUESTIONS   8000000u	 /* answered from memory too */
#define PREDICT_LISTED	    (8ull << 30) /* bytes of directories */
#define PREDICT_LOAD_BYTES  (512u << 20)
#define PREDICT_DEPTH	    6u		/* scripts that call scripts */
#define PREDICT_SMALL_BYTES (64u << 10) /* a configuration file */
#define PREDICT_WHOLE_BYTES (4u << 20)	/* of larger files only the beginning */

/* What the image has under a path; links are followed, so two paths may share the last one. */
struct known {
	struct known *next; /* of the bucket */
	struct known *real; /* NULL: not there; itself: the path without links */
	char *path;
	struct imagefs_node node;
	uint32_t file; /* in the list; UINT32_MAX: not yet */
	/* taken as a whole; looked into; followed; never read from disk */
	bool whole, elf, module, frozen;
};

struct predict {
	struct imagefs *fs;
	const struct predict_options *o;
	const struct oci_config *config;
	struct prefetch_list *l;
	size_t file_room, touch_room;
	uint64_t bytes;	 /* of all touches */
	uint64_t loaded; /* by predict_load() */
	struct known **bucket;
	size_t lookups, questions;
	uint64_t listed_before; /* of the file system */
	bool spent;
	char *cache; /* ld.so.cache */
	struct ldcache ldcache;
	char *interp_dirs; /* of musl, with colons; NULL: glibc */
	int rc;
	struct err *e;
};

/* predict_over - nothing more will be found: an error stuck, or too much was looked for */
bool predict_over(struct predict *p);
/* predict_find - what is at an absolute path; NULL: nothing, or an error that stuck */
struct known *predict_find(struct predict *p, const char *path);
/* predict_find_file - the same, regular files only */
struct known *predict_find_file(struct predict *p, const char *path);
/* predict_part/predict_whole - add a touch; bytes beyond the budget are left out */
void predict_part(struct predict *p, struct known *k, uint64_t off, uint64_t bytes);
void predict_whole(struct predict *p, struct known *k);
/* predict_load - content of a file, NUL behind; NULL: larger than @max, too much in all, or an
 * error that stuck */
char *predict_load(struct predict *p, const struct known *k, size_t max, size_t *ret_bytes);
/* predict_env - value of a variable of the config; NULL: not set */
const char *predict_env(const struct predict *p, const char *name);
/*
 * predict_small_files - regular files of a directory that may be configuration
 * @name: of the program, then what they name is taken too; NULL: of nobody
 * @depth: levels of directories
 */
void predict_small_files(struct predict *p, const char *dir, const char *name, unsigned int depth);

/*
 * predict_program - what executing a file reads
 * @args: NULL-terminated, behind the program's name
 */
void predict_program(struct predict *p, struct known *k, char *const *args, unsigned int depth);
/* predict_words - programs and files named in the text of a shell script */
void predict_words(struct predict *p, const char *text, unsigned int depth);
/* predict_configuration - where a program of this name has its configuration by custom */
void predict_configuration(struct predict *p, const char *name);
/* predict_config_words - files and modules that a configuration of program @name names */
void predict_config_words(struct predict *p, const struct known *k, const char *name);
/* predict_in_path - a program by its name as execvp finds it; NULL: nowhere */
struct known *predict_in_path(struct predict *p, const char *name);

/* predict_elf - the parts of an ELF file and all libraries it needs; @text: its code too */
void predict_elf(struct predict *p, struct known *k, bool text);

/* predict_python/predict_node - interpreter's own files, and what the script imports */
void predict_python(struct predict *p, struct known *interp, char *const *args);
void predict_node(struct predict *p, char *const *args);

#endif
