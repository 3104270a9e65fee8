/* SPDX-License-Identifier: Apache-2.0 */
/* commands.h - one function per subcommand; argv[0] is its name; returns the exit code */
#ifndef HS_TOOLS_COMMANDS_H
#define HS_TOOLS_COMMANDS_H

int cmd_convert(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_prefetch_make(int argc, char **argv);
int cmd_prefetch_port(int argc, char **argv);
int cmd_prefetch_pull(int argc, char **argv);
int cmd_prefetch_push(int argc, char **argv);
int cmd_prefetch_show(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_trace_record(int argc, char **argv);
int cmd_trace_show(int argc, char **argv);
int cmd_umount(int argc, char **argv);

#endif
