"""Whether the INT8 products of a CPU saturate. Not for avoiding it: see `quantizers.paired_weights`."""

import platform

_VNNI = {"avx512_vnni", "avx_vnni"}


def pairs_saturate(isa: tuple[str, ...]) -> bool:
    """Whether u8 × s8 products are added in pairs in int16 on a CPU with these flags (as in /proc/cpuinfo).

    So it is on x86 without VNNI (VPMADDUBSW), in MLAS and in oneDNN; VNNI and ARM add in int32.
    """
    return platform.machine().lower() in ("x86_64", "amd64") and not _VNNI & set(isa)
