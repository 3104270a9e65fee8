/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - see image.h */
#include "image.h"

#include <stdlib.h>

#include "blob.h"

struct stream *image_stream(const struct image *i, const struct map_piece *mp)
{
	struct layer *l = &i->layers[mp->layer];

	return mp->tag ? &l->target : &l->main;
}

void image_free(struct image *i)
{
	if (!i)
		return;
	for (size_t n = 0; n < i->layer_count; n++) {
		stream_done(&i->layers[n].main);
		stream_done(&i->layers[n].target);
	}
	for (size_t n = 0; n < i->blob_count; n++)
		blob_free(i->blobs[n]);
	image_map_free(i->map);
	free(i->layers);
	free(i->blobs);
	free(i->opening);
	free(i);
}
