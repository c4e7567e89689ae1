"""Has clang check a kernel's text, as MLX writes it for Metal, with our metal_stdlib. Nothing is run.

Twice: as C++14, word for word; and as C++ for OpenCL, clang's dialect for GPUs, where address spaces are part of a type.
That one has no templates that are kernels, so the template arguments are put into the function.
"""

import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).parent

COMMON = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-attributes", "-Wno-unused",
          "-fno-color-diagnostics", "-ffreestanding", "-fno-builtin", "-nostdinc", f"-I{HERE}"]
CPP14 = ["-x", "c++", "-std=c++14", "-pedantic-errors", "-nostdinc++", "-fno-exceptions", "-fno-rtti", "-fsyntax-only"]
SPACES = ["-x", "clcpp", "-cl-std=clc++", "-cl-no-stdinc", "-Xclang", "-cl-ext=-all", "-Wpre-c++17-compat",
          "--target=x86_64-unknown-linux-gnu"]


class Checker:
    def __init__(self):
        self.clang = shutil.which("clang")
        if not self.clang:
            raise SystemExit("metal.py: clang is missing: apt-get install clang")

    def run(self, options, text):
        """What clang prints, and its messages if it refuses the text."""
        text = f'#include "metal_stdlib"\n#line 1 "kernel"\n{text}'
        done = subprocess.run([self.clang, *COMMON, *options, "-"], input=text, capture_output=True, text=True, check=False)
        return done.stdout, done.stderr if done.returncode else ""

    def faults(self, text, template):
        """What is wrong with `text`, as messages. `template`: names of the template's arguments and what they are."""
        _, refused = self.run(CPP14, as_cpp14(text))
        if refused:
            return [refused]
        text = as_opencl(text, template)
        tree, refused = self.run([*SPACES, "-fsyntax-only", "-Xclang", "-ast-dump"], text)
        if refused:
            return [refused]
        code, refused = self.run([*SPACES, "-S", "-emit-llvm", "-O0", "-femit-all-decls", "-o", "-"], text)
        if refused:
            return [refused]
        return [*without_space(tree), *lambdas(tree), *recursive(code)]


def as_cpp14(text):
    """C++ has no place for attributes in an explicit instantiation."""
    return re.sub(r'template \[\[host_name\("\w+"\)\]\] \[\[kernel\]\]', "template", text)


def as_opencl(text, template):
    """The one instantiation that MLX asks for, as a function that is no template."""
    arguments = "".join(
        f"constexpr int {name} = {value};\n" if isinstance(value, int) else f"typedef {value} {name};\n"
        for name, value in template.items())
    text, kernels = re.subn(r"(?:template <[^>]*>\n)?\[\[kernel\]\] void (\w+)\(", r"__kernel void \1(", text)
    text, bodies = re.subn(r"(__kernel void \w+\([^{]*\) \{\n)", lambda found: found[1] + arguments, text)
    text, instances = re.subn(r'\ntemplate \[\[host_name\("\w+"\)\]\] .*\n', "\n", text)
    if (kernels, bodies, instances) != (1, 1, 1):
        raise SystemExit(f"metal.py: MLX writes kernels differently now; adapt as_opencl:\n{text}")
    return text


DECLARATION = re.compile(r"[|` ]-(?:Var|ParmVar|Field|Function|Typedef|TypeAlias)Decl 0x\w+ (?:prev 0x\w+ )?<.*?> \S+ (.*)")
CAST = re.compile(r"[|` ]-(?:CXXReinterpretCast|CXXStaticCast|CXXConstCast|CStyleCast)Expr 0x\w+ <.*?> (.*)")


def without_space(tree):
    """Pointers and references that name no address space, which Metal refuses and OpenCL calls generic."""
    for line in tree.splitlines():
        declared, cast = DECLARATION.search(line), CAST.search(line)
        if declared and "__generic" in line:
            words = declared[1].split("'")[0].split()
            words = [word for word in words if word not in ("used", "referenced", "implicit", "constexpr")]
            # Nameless ones belong to what every struct has by itself.
            if words:
                yield f"pointer or reference without address space: {' '.join(words)} {line.split(chr(39), 1)[1]}"
        elif cast and "__generic" in cast[1]:
            yield f"cast to a pointer or reference without address space: {cast[1]}"


def lambdas(tree):
    return ["lambda expression"] if "LambdaExpr" in tree else []


def recursive(code):
    """Functions that call themselves, by LLVM's code for all of them."""
    calls, function = {}, None
    for line in code.splitlines():
        if found := re.match(r"define .*? @([\w.$]+)\(", line):
            function = found[1]
            calls[function] = set()
        elif function and (found := re.search(r"\bcall .*? @([\w.$]+)\(", line)):
            calls[function].add(found[1])
    for function in calls:
        reached, next_ones = set(), set(calls[function])
        while next_ones:
            reached |= next_ones
            next_ones = set().union(*(calls.get(name, set()) for name in next_ones)) - reached
        if function in reached:
            yield f"recursion: {function} comes to itself"
