"""The running program, put together from its settings; what ``status`` and ``check`` say of it.

It may import every room but ``cli``.
"""
