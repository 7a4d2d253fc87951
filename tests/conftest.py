"""Signals as at a terminal, also where the suite was started in the background.

A shell without job control starts `make test &` with SIGINT and SIGQUIT ignored, `nohup` with SIGHUP,
and every child inherits that: no test of an interrupted run could interrupt anything.
"""

import signal

for _number in (
    (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGINT,)
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
