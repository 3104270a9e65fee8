/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vmlinux.h - what the BPF programs know of the kernel's types, and nothing more
 *
 * Kept by hand. Members may stand in any order and without their neighbours: where they really are
 * is filled in at load time from the running kernel's BTF (CO-RE). A type with "___" in its name
 * describes the same type in another kernel version.
 */
#ifndef HS_BPF_VMLINUX_H
#define HS_BPF_VMLINUX_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false, true };

#define NULL ((void *)0)

/* the kernel's interface to BPF programs; these numbers do not change */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum { BPF_ANY = 0 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };

#define S_IFMT	0170000
#define S_IFLNK 0120000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define S_IFDIR 0040000

/* the numbers are the running kernel's */
enum pageflags { PG_head = 6 };
enum req_flag_bits { __REQ_RAHEAD = 19 };

#define REQ_OP_MASK 0xffu
#define REQ_OP_READ 0u

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
	__u32 s_dev;
};

struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	__u32 i_rdev;
	long long i_size;
};

struct address_space {
	struct inode *host;
};

/* before 5.16 */
struct page {
	struct address_space *mapping;
	unsigned long index;
};

struct folio {
	struct address_space *mapping;
	unsigned long index;
	unsigned long _flags_1;
};

/* 5.19 to 6.5 */
struct folio___order {
	unsigned char _folio_order;
};

struct gendisk {
	int major;
	int first_minor;
};

struct block_device {
	__u32 bd_dev;
};

struct bvec_iter {
	__u64 bi_sector;
	unsigned int bi_size;
};

struct bio {
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	struct bvec_iter bi_iter;
};

/* before 5.12 */
struct bio___disk {
	struct gendisk *bi_disk;
};

struct request_queue;

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
};

struct task_struct {
	int tgid;
	struct signal_struct *signal;
};

struct kernfs_node {
	const char *name;
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

#pragma clang attribute pop

#endif
