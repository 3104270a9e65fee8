/* SPDX-License-Identifier: Apache-2.0 */
/* ext2_device.c - see ext2_device.h */
#include "ext2_device.h"

#include <stdlib.h>

#include "text.h"

/* libext2fs hands its manager a name only; the device travels beside it. */
static _Thread_local struct ext2_device opening;

static errcode_t io_open(const char *name, int flags, io_channel *ret);

static errcode_t io_close(io_channel ch)
{
	if (--ch->refcount > 0)
		return 0;
	free(ch->private_data);
	free(ch->name);
	free(ch);
	return 0;
}

static errcode_t io_set_blksize(io_channel ch, int blksize)
{
	ch->block_size = blksize;
	return 0;
}

/* The bytes of @count blocks, or of a negative @count of bytes. */
static uint64_t io_bytes(io_channel ch, int count)
{
	return count < 0 ? (uint64_t) - (int64_t)count
			 : (uint64_t)count * (unsigned int)ch->block_size;
}

static errcode_t write_bytes(io_channel ch, uint64_t off, uint64_t bytes, const void *data)
{
	const struct ext2_device *d = ch->private_data;

	return d->write ? d->write(d->arg, data, bytes, off) : EXT2_ET_RO_FILSYS;
}

static errcode_t io_read64(io_channel ch, unsigned long long block, int count, void *data)
{
	const struct ext2_device *d = ch->private_data;
	uint64_t size = (unsigned int)ch->block_size;

	if (block > UINT64_MAX / size)
		return EXT2_ET_BAD_BLOCK_NUM;
	return d->read(d->arg, data, io_bytes(ch, count), block * size);
}

static errcode_t io_write64(io_channel ch, unsigned long long block, int count, const void *data)
{
	uint64_t size = (unsigned int)ch->block_size;

	if (block > UINT64_MAX / size)
		return EXT2_ET_BAD_BLOCK_NUM;
	return write_bytes(ch, block * size, io_bytes(ch, count), data);
}

static errcode_t io_read(io_channel ch, unsigned long block, int count, void *data)
{
	return io_read64(ch, block, count, data);
}

static errcode_t io_write(io_channel ch, unsigned long block, int count, const void *data)
{
	return io_write64(ch, block, count, data);
}

static errcode_t io_write_byte(io_channel ch, unsigned long off, int count, const void *data)
{
	return write_bytes(ch, off, (uint64_t)count, data);
}

static errcode_t io_flush(io_channel ch)
{
	(void)ch;
	return 0;
}

static errcode_t io_readahead(io_channel ch, unsigned long long block, unsigned long long count)
{
	(void)ch;
	(void)block;
	(void)count;
	return 0;
}

static struct struct_io_manager manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "headstart byte ranges",
    .open = io_open,
    .close = io_close,
    .set_blksize = io_set_blksize,
    .read_blk = io_read,
    .write_blk = io_write,
    .flush = io_flush,
    .write_byte = io_write_byte,
    .read_blk64 = io_read64,
    .write_blk64 = io_write64,
    .cache_readahead = io_readahead,
};

static errcode_t io_open(const char *name, int flags, io_channel *ret)
{
	io_channel ch = xmalloc_zero(1, sizeof(*ch));
	struct ext2_device *d = xmalloc_zero(1, sizeof(*d));

	(void)flags;
	*d = opening;
	ch->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	ch->manager = &manager;
	ch->name = text_dup(name);
	ch->block_size = 1024;
	ch->refcount = 1;
	ch->private_data = d;
	*ret = ch;
	return 0;
}

io_manager ext2_device_io(const struct ext2_device *dev)
{
	opening = *dev;
	return &manager;
}
