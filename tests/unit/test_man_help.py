#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every command's --help and its man page tell the same options, and --help fits a terminal.

Usage: test_man_help.py HEADSTART_BINARY
"""
import os
import re
import subprocess
import sys

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
MAN = os.path.join(SOURCE, "tools/man")
COMMANDS_H = os.path.join(SOURCE, "tools/commands.h")
HELP_OPTION = re.compile(r"^ {2,8}(?:-(\w), )?--([a-z][a-z0-9-]*)(?:=(\S+))?")
LONG = re.compile(r"--([a-z][a-z0-9-]*)")
COLUMNS = 80


def run(binary, *args):
    return subprocess.run([binary, *args], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=20, check=False, text=True)


def help_options(text):
    return {m.group(2): m.group(1) for m in map(HELP_OPTION.match, text.split("\n")) if m}


def plain(line):
    """A man page line without its markup."""
    line = re.sub(r"^\.(?:[BIR]{1,2}|SM|SB)\s+", "", line)
    line = re.sub(r"\\f(?:\[\w*\]|.)", "", line).replace("\\-", "-").replace('"', "")
    return line.replace("\\&", "").replace("\\|", "")


def man_options(path):
    """Options that head a paragraph (.TP or .TQ) of the page, in their order."""
    found, tagged = [], False
    with open(path, encoding="utf-8") as f:
        for line in f:
            line = line.rstrip("\n")
            if re.match(r"^\.(TP|TQ)\b", line):
                tagged = True
            elif tagged and not line.startswith('.\\"'):
                tagged = False
                text = plain(line)
                if text.startswith("-"):
                    found += LONG.findall(text)
    return found


def check(binary, command, problems):
    r = run(binary, *command.split(), "--help")
    if r.returncode != 0 or r.stderr:
        problems.append("%s --help: exit %d, stderr %r" % (command, r.returncode, r.stderr[:200]))
    for line in r.stdout.split("\n"):
        if len(line) > COLUMNS:
            problems.append("%s --help: %d columns: %s" % (command, len(line), line))
        if "\t" in line:
            problems.append("%s --help: a tab: %s" % (command, line))
    if not r.stdout.startswith("Usage: headstart %s" % command):
        problems.append("%s --help does not begin with its usage" % command)
    shown = help_options(r.stdout)
    page = os.path.join(MAN, "headstart-%s.1" % command.replace(" ", "-"))
    if not os.path.exists(page):
        problems.append("%s: no man page %s" % (command, os.path.relpath(page, SOURCE)))
        return 0
    listed = man_options(page)
    for o in sorted(set(shown) - set(listed)):
        problems.append("%s: --%s is in --help, not in the man page" % (command, o))
    for o in sorted(set(listed) - set(shown)):
        problems.append("%s: --%s is in the man page, not in --help" % (command, o))
    for o in sorted({o for o in listed if listed.count(o) > 1}):
        problems.append("%s: --%s is twice in the man page" % (command, o))
    # a word that is no option has to be refused as misuse, not ignored
    r = run(binary, *command.split(), "--no-such-option")
    if r.returncode != 2 or "no-such-option" not in r.stderr:
        problems.append("%s --no-such-option: exit %d, stderr %r" % (command, r.returncode,
                                                                    r.stderr[:200]))
    return len(shown)


def main():
    if len(sys.argv) != 2:
        print(__doc__.split("\n")[3])
        return 2
    binary = sys.argv[1]
    with open(COMMANDS_H, encoding="utf-8") as f:
        # cmd_trace_record() is the command of two words "trace record"
        commands = sorted(c.replace("_", " ")
                          for c in re.findall(r"\bcmd_(\w+)\(int argc", f.read()))
    problems, options = [], 0
    if not commands:
        problems.append("no command found in %s" % COMMANDS_H)
    top = run(binary, "--help")
    if top.returncode != 0:
        problems.append("--help: exit %d" % top.returncode)
    for line in top.stdout.split("\n"):
        if len(line) > COLUMNS:
            problems.append("--help: %d columns: %s" % (len(line), line))
    if run(binary).returncode != 2:
        problems.append("no command: exit is not 2")
    for c in commands:
        if not re.search(r"^\s+%s\b" % c, top.stdout, re.M):
            problems.append("--help does not list %s" % c)
        options += check(binary, c, problems)
    for name in sorted(os.listdir(MAN) if os.path.isdir(MAN) else []):
        m = re.match(r"headstart-([\w-]+)\.1$", name)
        if m and m.group(1).replace("-", " ") not in commands:
            problems.append("man page %s has no command" % name)
    for p in problems:
        print(p)
    print("%d commands, %d options, %d problems" % (len(commands), options, len(problems)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
