/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree.h - directories of the file system while one layer is applied
 *
 * A directory is loaded when it is first needed, its blocks are changed in place and written back
 * by tree_flush(): an entry never moves, so a layer that adds one file to a directory changes one
 * block. Names are found through a hash table, not by scanning. "Touched" is what this layer has
 * named: whiteouts must leave it alone.
 */
#ifndef HS_CONVERT_TREE_H
#define HS_CONVERT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dir;
struct err;
struct ext4;
struct tree;

#define TREE_NAME_MAX 255u

/* One entry as found; @type is EXT2_FT_*. */
struct tree_entry {
	uint32_t ino;
	uint8_t type;
	bool touched;
};

struct tree *tree_new(struct ext4 *x);
void tree_free(struct tree *t); /* NULL is fine */

/* tree_dir - a directory by inode number; valid until tree_forget() or tree_free() */
int tree_dir(struct tree *t, uint32_t ino, struct dir **ret, struct err *e);

/* tree_make_dir - a new, empty directory in @parent_ino; the caller adds the name and the inode */
struct dir *tree_make_dir(struct tree *t, uint32_t ino, uint32_t parent_ino);

/* tree_forget - a directory was removed: its blocks are never written */
void tree_forget(struct tree *t, uint32_t ino);

uint32_t dir_ino(const struct dir *d);
uint32_t dir_parent(const struct dir *d); /* the root's parent is the root */

bool dir_find(const struct dir *d, const char *name, size_t len, struct tree_entry *ret);

/* dir_add - @name must not be there; marks it touched; 0 or -ENOSPC */
int dir_add(struct dir *d, const char *name, size_t len, uint32_t ino, uint8_t type, struct err *e);
/* dir_replace - point an existing entry elsewhere, in place; marks it touched */
void dir_replace(struct dir *d, const char *name, size_t len, uint32_t ino, uint8_t type);
void dir_touch(struct dir *d, const char *name, size_t len);
void dir_remove(struct dir *d, const char *name, size_t len); /* must be there */

/* dir_next - visit all entries but "." and ".."; start with *pos = 0; they may be removed meanwhile
 */
bool dir_next(const struct dir *d, uint32_t *pos, const char **ret_name, size_t *ret_len,
	      struct tree_entry *ret);
uint32_t dir_count(const struct dir *d); /* entries but "." and ".." */

/* tree_flush - write all changed directories: blocks, sizes, link counts */
int tree_flush(struct tree *t, struct err *e);

#endif
