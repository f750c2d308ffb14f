"""Builds empty stand-ins for the CUDA libraries that PyPI's torch links, so that it can be imported without any CUDA package.

    python3 cuda_stubs.py <folder of torch's libraries> <folder for the stand-ins>

Each stand-in has the name and the symbol versions that torch asks for; its functions fail, so torch finds no CUDA device."""

import collections
import pathlib
import re
import subprocess
import sys

SYSTEM = re.compile(r"lib(c|m|dl|pthread|rt|gcc_s|stdc\+\+)\.so|ld-linux")
# Libraries without symbol versions are told apart by the beginnings of their functions' names.
BEGINNINGS = {
    "libnccl.so.2": "nccl",
    "libcudnn.so.9": "cudnn",
    "libcufile.so.0": "cuFile",
    "libcusparseLt.so.0": "cusparseLt",
    "libcurand.so.10": "curand",
    "libnvrtc.so.12": "nvrtc",
    "libnvshmem_host.so.3": "nvshmem",
    "libcuda.so.1": "cu",
}
OTHERS = re.compile(r"cu(dnn|File|sparse|rand|solver|blas|fft|da|pti)")
CUDA = re.compile(r"(nccl|nvshmem|nvrtc|cu[A-Z]|cudnn|cufile|curand|cusparseLt|cusolver)")


def read(*command):
    return subprocess.check_output(command, text=True).splitlines()


def asked_for(folder):
    """The libraries that are missing, their functions by symbol version, and the CUDA functions without one."""
    own = {path.name for path in folder.iterdir()}
    missing, versions, bare = set(), collections.defaultdict(set), set()
    for path in folder.glob("*.so"):
        needed = re.findall(r"NEEDED.*\[(.*)\]", "\n".join(read("readelf", "-d", path)))
        missing |= {name for name in needed if name not in own and not SYSTEM.match(name)}
        for line in read("readelf", "-W", "--dyn-syms", path):
            words = line.split()
            if len(words) < 8 or words[6] != "UND":
                continue
            name, _, version = words[7].replace("@@", "@").partition("@")
            if version:
                versions[version].add(name)
            elif CUDA.match(name):
                bare.add(name)
    return missing, versions, bare


def body(function, failure):
    if "GetErrorString" in function or "GetErrorName" in function:
        return f'const char *{function}(void) {{ return "no CUDA here"; }}'
    if function.startswith("__cuda"):
        return f"static void *handle_{function}[4]; void *{function}(void) {{ return handle_{function}; }}"
    code = 0 if function in ("cudaGetLastError", "cudaPeekAtLastError") else failure
    return f"int {function}(void) {{ return {code}; }}"


def build(name, versions, bare, target):
    own = {v: functions for v, functions in versions.items() if v == name or (name.startswith("libnvshmem") and "NVSHMEM" in v)}
    functions = set().union(*own.values()) if own else set()
    beginning = BEGINNINGS.get(name)
    if beginning:
        functions |= {f for f in bare if f.startswith(beginning) and not (name == "libcuda.so.1" and OTHERS.match(f))}
    failure = 100 if name.startswith(("libcudart", "libcuda.")) else 0
    source, script = target / f"{name}.c", target / f"{name}.map"
    source.write_text("\n".join(body(function, failure) for function in sorted(functions)) + "\n")
    script.write_text("".join(f"{v} {{ global: {' '.join(f + ';' for f in sorted(fs))} }};\n" for v, fs in own.items()))
    command = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-fno-builtin", f"-Wl,-soname,{name}", "-o", target / name, source]
    subprocess.check_call(command + ([f"-Wl,--version-script={script}"] if own else []))


def main():
    folder, target = map(pathlib.Path, sys.argv[1:3])
    missing, versions, bare = asked_for(folder)
    for name in sorted(missing):
        build(name, versions, bare, target)
    print(f"{len(missing)} stand-ins in {target}")


main()
