"""A card that is not there: stand-ins for NVIDIA's libraries that count memory and run no kernel.

torch's CUDA build, bitsandbytes and Triton run on them unchanged. `spec` says which card, `symbols` and `elf` what the
installed binaries ask for, `build` and `stubs` make the libraries of `src/`, `preload` puts them into a process, and
`readings` tells what was taken.
"""
