# SPDX-License-Identifier: Apache-2.0
def page(result):
    return "<!DOCTYPE html>\n"
