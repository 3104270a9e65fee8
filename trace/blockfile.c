/* SPDX-License-Identifier: Apache-2.0 */
/* blockfile.c - see blockfile.h */
#include "blockfile.h"
