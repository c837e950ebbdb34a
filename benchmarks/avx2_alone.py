"""Run a command on this processor as if it had AVX2 and nothing newer.

Torch, onnxruntime and OpenVINO ask the processor what it has, by the instruction CPUID, and no
setting reaches all of them. Here each of these instructions becomes a trap in a copy of their
libraries, and the trap answers as the processor would without AVX-512, VNNI and AMX: the same
kernels run then as on a processor with AVX2 alone, at the speed that they have here.

    python benchmarks/avx2_alone.py limbeck export RUN -o DIR --formats onnx,onnx-int8

The copies are made at the first time, which takes some minutes. It needs Linux on x86-64, a C
compiler, and objdump. What torch.compile builds is not meant: the compiler still sees all.
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = ("torch", "onnxruntime", "openvino")
CPUID, TRAP = b"\x0f\xa2", b"\xcd\x03"  # both of two bytes; int 3 in its long form
# In the names of large libraries that are loaded for another device alone.
OTHER_DEVICES = ("gpu", "npu", "cuda")

# What a program sees then, as torch tells it.
SEEN = """
import torch
found = [name for name, there in torch.cpu.get_capabilities().items()
         if there is True and name.startswith(("avx512", "avx_vnni", "avx10", "amx"))]
raise SystemExit(", ".join(found) or None)
"""

# Bits by leaf and subleaf, as in the manuals of Intel and AMD ("CPUID - CPU identification").
ANSWER = r"""
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

#define BIT(number) (1u << (number))

static void answer(int number, siginfo_t *info, void *context) {
  (void)number;
  (void)info;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
  __cpuid_count(leaf, subleaf, a, b, c, d);
  if (leaf == 7 && subleaf == 0) {
    b &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
    c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
    d &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
  }
  if (leaf == 7 && subleaf == 1) {
    a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23));
    d &= ~(BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19));
  }
  registers[REG_RAX] = a;
  registers[REG_RBX] = b;
  registers[REG_RCX] = c;
  registers[REG_RDX] = d;
}

__attribute__((constructor)) static void begin(void) {
  struct sigaction action = {0};
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGTRAP, &action, NULL);
}
"""


def main() -> None:
    """Make what is missing in the folder, and become the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/avx2-alone"))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if not given.command:
        parser.error("give the command to run")
    for program in ("cc", "objdump"):
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed: it comes with gcc and binutils")
    environment = environment_of(given.folder.resolve())
    seen = subprocess.run([sys.executable, "-c", SEEN], env=environment, capture_output=True)
    if seen.returncode:
        raise SystemExit(f"newer instructions are seen still: {seen.stderr.decode()}")
    os.execvpe(given.command[0], given.command, environment)


def environment_of(folder: Path) -> dict[str, str]:
    """The environment of a command; what it needs is made in the folder where it is missing."""
    packages, preload = folder / "packages", folder / "answer.so"
    for name in PACKAGES:
        original = Path(sysconfig.get_path("platlib")) / name
        if original.is_dir() and not (packages / name).exists():
            copy_package(original, packages / name)
    if not preload.exists():
        compiler = ["cc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(preload)]
        subprocess.run(compiler, input=ANSWER, text=True, check=True)
    path = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path),
        "LD_PRELOAD": str(preload),
        "PATH": os.pathsep.join(programs),
    }


def copy_package(original: Path, copy: Path) -> None:
    """A package of links to its files, but for libraries that ask the processor."""
    part = copy.with_name(copy.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(original, part, copy_function=os.symlink)
    for library in sorted(part.rglob("*.so*")):
        if any(device in library.name for device in OTHER_DEVICES) or not library.is_file():
            continue
        code = bytearray(library.read_bytes())
        places = where_asked(library, code)
        for place in places:
            if code[place : place + 2] != CPUID:
                raise SystemExit(f"{library}: no CPUID at byte {place:,}")
            code[place : place + 2] = TRAP
        if places:
            library.unlink()
            library.write_bytes(code)
            print(f"{copy.name}/{library.relative_to(part)}: {len(places)}", file=sys.stderr)
    part.rename(copy)


def where_asked(library: Path, code: bytes) -> list[int]:
    """The bytes of a library at which a CPUID begins."""
    if not code.startswith(b"\x7fELF") or CPUID not in code:
        return []
    segments = loaded_segments(code)
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(library)]
    places = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as listing:
        assert listing.stdout is not None
        for line in listing.stdout:
            if line.rstrip().endswith(b"\tcpuid"):
                address = int(line.split(b":")[0], 16)
                places += [
                    offset + address - start
                    for start, offset, size in segments
                    if start <= address < start + size
                ]
    if listing.returncode:
        raise SystemExit(f"objdump could not read {library}")
    return places


def loaded_segments(code: bytes) -> list[tuple[int, int, int]]:
    """Of each segment of a 64-bit ELF file that is loaded: address, place in the file, bytes."""
    table, size, count = (
        struct.unpack_from(kind, code, place)[0]
        for kind, place in (("<Q", 32), ("<H", 54), ("<H", 56))
    )
    segments = []
    for number in range(count):
        kind, _, offset, address, _, in_file = struct.unpack_from(
            "<IIQQQQ", code, table + number * size
        )
        if kind == 1:
            segments.append((address, offset, in_file))
    return segments


if __name__ == "__main__":
    main()
