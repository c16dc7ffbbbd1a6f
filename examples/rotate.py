"""Record an interface into files that rotate: rotate.py eth1 day.pcapng 100000000 10 ['udp'].

A file has at most so many bytes, and the latest so many files stay: day-00001.pcapng and so on. An
expression of tcpdump may choose the frames. It ends at SIGINT and SIGTERM with its books, and with
an error as the disk is full.
"""

import signal
import sys

import netring_bpf as nr


def main(interface: str, path: str, size: int, files: int, expression: str | None = None) -> None:
    capture = nr.Capture(interface, filter=expression)
    options = nr.RecordOptions(rotate_size=size, max_files=files)
    with nr.Recorder(capture, path, options) as recorder:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: recorder.stop())
        print("recording", interface, "by", capture.backend, flush=True)
        recorder.run()
    books = recorder.statistics()
    for file in recorder.files:
        print(file)
    print(f"{books.written} frames written, {books.unwritten} not, {books.files} files made")
    if not books.balanced:
        sys.exit("the books do not balance")


if __name__ == "__main__":
    interface, path, size, files, *rest = sys.argv[1:]
    try:
        main(interface, path, int(size), int(files), *rest)
    except nr.NetringError as error:
        sys.exit(f"rotate.py: {error}")
