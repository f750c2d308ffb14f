"""Compiles and runs example programs that others wrote for CANN, each on its own, against an installed folder.

    . <installed>/set_env.sh && python3 run.py <folder of programs> <folder for results> [--filter text] [--jobs 2] [--soc name] [--again]

The public operator repositories hold one small program per function (`**/examples/test_aclnn_*.cpp`); none of their code is
kept here. A program is `right` here if it compiles, ends with 0 and prints no line that says that a call failed. What it computes is
in `<results>/<program>.txt`, for reading; `results.tsv` has one line per program. With `--again` programs that were right before
are left out."""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess

FLAGS = "-std=c++17 -O0 -w -pthread".split()
LIBRARIES = "-lascendcl -lnnopbase -lopapi -lhccl".split()
FAILED = re.compile(r"(failed|ERROR: *-?\d{3,}|error code)", re.IGNORECASE)
# Programs for the newest chips lie in folders named after their architecture.
NEWEST = re.compile(r"arch35|950")


def includes(home, folder):
    yield from (home / "include", home / "include/aclnn", home / "include/aclnnop", folder)


def prepare(home, folder):
    """Compiles the headers that nearly all programs include once for all."""
    names = ["<iostream>", "<vector>", "<memory>", "<cmath>", "<cstring>", "<cstdio>", "<string>", "<algorithm>", '"acl/acl.h"']
    prefix = folder / "prefix.h"
    prefix.write_text("".join(f"#include {name}\n" for name in names))
    subprocess.run(["g++", *FLAGS, f"-I{home / 'include'}", "-x", "c++-header", str(prefix), "-o", f"{prefix}.gch"], check=True)


# Some programs name a header by its place in their repository.
OWN_PLACE = re.compile(r'"(?:\.\./)+[\w/]*op_api/(aclnn_\w+\.h)"')


def compile_one(home, program, target):
    text = program.read_text(errors="replace")
    if OWN_PLACE.search(text):
        copy = target.with_suffix(".cpp")
        copy.write_text(OWN_PLACE.sub(r'"aclnnop/\1"', text))
        good, log = build(home, program.parent, copy, target)
        copy.unlink()
        return good, log
    return build(home, program.parent, program, target)


def build(home, folder, program, target):
    command = ["g++", *FLAGS, "-include", str(target.parent / "prefix.h"), str(program), "-o", str(target)]
    command += [f"-I{path}" for path in includes(home, folder)]
    command += [f"-L{home / 'lib64'}", *LIBRARIES]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    return done.returncode == 0, done.stderr


def examine(home, program, name, arguments):
    stem = name.replace("/", "__")
    binary, text = arguments.results / f"{stem}.bin", arguments.results / f"{stem}.txt"
    good, log = compile_one(home, program, binary)
    if not good:
        text.write_text(log)
        first = next((line for line in log.splitlines() if "error" in line or "undefined" in line), log[:200])
        return "compile", first.split("error: ")[-1]
    environment = dict(os.environ)
    if arguments.soc or NEWEST.search(name):
        environment["ASCEND_EMULATOR_SOC"] = arguments.soc or "Ascend950PR_9599"
    environment.setdefault("ASCEND_EMULATOR_DEVICES", "16")
    environment.setdefault("ASCEND_EMULATOR_LOG", str(text) + ".log")
    try:
        done = subprocess.run([str(binary)], capture_output=True, timeout=arguments.seconds, env=environment, cwd=arguments.results)
    except subprocess.TimeoutExpired:
        return "hangs", f"not done in {arguments.seconds} s"
    finally:
        binary.unlink()
    output = (done.stdout + done.stderr).decode(errors="replace")
    text.write_text(output)
    reason = refusal(pathlib.Path(str(text) + ".log"))
    line = next((line for line in output.splitlines() if FAILED.search(line)), "")
    if done.returncode < 0:
        return "crash", f"signal {-done.returncode} {line} {reason}"
    if done.returncode != 0 or line:
        return "refused", f"exit {done.returncode}: {line} {reason}"
    return "right", ""


def refusal(log):
    """The first failure in the emulator's log of calls."""
    if not log.exists():
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if " failed with " in line]
    log.unlink()
    return lines[0] if lines else ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--filter", default="", help="a regular expression that the path matches")
    parser.add_argument("--skip", default="$^", help="a regular expression that the path must not match")
    parser.add_argument("--pattern", default="test_aclnn_*.cpp")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--soc")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    home = pathlib.Path(os.environ["ASCEND_TOOLKIT_HOME"])
    arguments.results = arguments.results.resolve()
    arguments.results.mkdir(parents=True, exist_ok=True)
    table, verdicts = arguments.results / "results.tsv", {}
    if table.exists():
        verdicts = {line.split("\t")[0]: line.split("\t")[1:] for line in table.read_text().splitlines()}
    chosen = {str(path.relative_to(arguments.programs)): path for path in sorted(arguments.programs.rglob(arguments.pattern))}
    chosen = {name: path for name, path in chosen.items() if re.search(arguments.filter, name) and not re.search(arguments.skip, name)}
    if arguments.again:
        chosen = {name: path for name, path in chosen.items() if verdicts.get(name, ["new"])[0] != "right"}
    prepare(home, arguments.results)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {pool.submit(examine, home, path, name, arguments): name for name, path in chosen.items()}
        for future in concurrent.futures.as_completed(futures):
            name, (verdict, text) = futures[future], future.result()
            verdicts[name] = [verdict, " ".join(text.split())[:500]]
            if verdict != "right":
                print(f"{verdict:8} {name}: {verdicts[name][1]}", flush=True)
            table.write_text("".join("\t".join([name, *rest]) + "\n" for name, rest in sorted(verdicts.items())))
    print(dict(collections.Counter(verdict for verdict, *_ in verdicts.values())))


main()
