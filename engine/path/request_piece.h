/* SPDX-License-Identifier: Apache-2.0 */
/* request_piece.h - what a piece tells its request; only piece.c and request.c include it */
#ifndef HS_PATH_REQUEST_PIECE_H
#define HS_PATH_REQUEST_PIECE_H

struct request;

/* request_piece_done - one piece has ended and is back in the pool; @r may be gone afterwards */
void request_piece_done(struct request *r);

#endif
