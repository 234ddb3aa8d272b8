"""Programs that measure; ``python -m benchmarks.NAME --help`` says how to run one."""
