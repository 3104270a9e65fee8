/* SPDX-License-Identifier: Apache-2.0 */
/* imagefs_ext4_io.c - see imagefs_ext4_io.h */
#include "imagefs_ext4_io.h"

#include "imagefs_cache.h"
#include "text.h"

#include <stdlib.h>

/* libext2fs hands its manager a name only; the device travels beside it. */
static _Thread_local struct imagefs_cache *opening;

static errcode_t io_open(const char *name, int flags, io_channel *ret);

static errcode_t io_close(io_channel ch)
{
	if (--ch->refcount > 0)
		return 0;
	free(ch->name);
	free(ch);
	return 0;
}

static errcode_t io_set_blksize(io_channel ch, int blksize)
{
	ch->block_size = blksize;
	return 0;
}

static errcode_t io_read64(io_channel ch, unsigned long long block, int count, void *data)
{
	uint64_t size = (unsigned int)ch->block_size;
	uint64_t bytes = count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * size;

	if (block > UINT64_MAX / size)
		return EXT2_ET_BAD_BLOCK_NUM;
	return imagefs_cache_read(ch->private_data, data, bytes, block * size, NULL)
		   ? EXT2_ET_SHORT_READ
		   : 0;
}

static errcode_t io_read(io_channel ch, unsigned long block, int count, void *data)
{
	return io_read64(ch, block, count, data);
}

static errcode_t io_write64(io_channel ch, unsigned long long block, int count, const void *data)
{
	(void)ch;
	(void)block;
	(void)count;
	(void)data;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_write(io_channel ch, unsigned long block, int count, const void *data)
{
	return io_write64(ch, block, count, data);
}

static errcode_t io_flush(io_channel ch)
{
	(void)ch;
	return 0;
}

static struct struct_io_manager manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "headstart image",
    .open = io_open,
    .close = io_close,
    .set_blksize = io_set_blksize,
    .read_blk = io_read,
    .write_blk = io_write,
    .flush = io_flush,
    .read_blk64 = io_read64,
    .write_blk64 = io_write64,
};

static errcode_t io_open(const char *name, int flags, io_channel *ret)
{
	io_channel ch = xmalloc_zero(1, sizeof(*ch));

	(void)flags;
	ch->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	ch->manager = &manager;
	ch->name = text_dup(name);
	ch->block_size = 1024;
	ch->refcount = 1;
	ch->private_data = opening;
	*ret = ch;
	return 0;
}

io_manager imagefs_ext4_io(struct imagefs_cache *dev)
{
	opening = dev;
	return &manager;
}
