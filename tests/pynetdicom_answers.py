"""Keep pynetdicom's reactor thread from taking an answer that another thread waits for.

``send_c_find`` and its like pause the reactor, but take it as paused when it has just passed the place where it
pauses.  On a busy machine it then reads a message once more, finds that it is no request, and throws it away.  The
answer is missing, or the caller waits until it times out.
"""

from __future__ import annotations

from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider


def keep_answers() -> None:
    """From now on, let the reactor take no message while it is to be paused."""
    take: Any = DIMSEServiceProvider.get_msg

    def get_msg(self: Any, block: bool = False) -> Any:
        if block:
            return take(self, block)
        messages = self.msg_queue
        with messages.mutex:  # an answer to what is sent after the pause cannot come in here
            paused = not self.assoc._reactor_checkpoint.is_set()
            return messages.queue.popleft() if messages.queue and not paused else (None, None)

    DIMSEServiceProvider.get_msg = get_msg  # type: ignore[method-assign]
