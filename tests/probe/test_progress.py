"""What a probe says on its way: lines of JSON, and only where there is news."""

import json
import threading

from planner.measurement import PhaseReading
from planner.probe.progress import Progress, watching


def reading(name, peak_bytes):
    return PhaseReading(name=name, peak_allocated_bytes=peak_bytes, resident_bytes=512)


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_phase_speaks_when_it_grows_and_when_it_first_ends(capsys):
    progress = Progress()
    for peak_bytes, ended in ((1024, False), (1024, False), (4096, False), (2048, True), (4096, True), (8192, True)):
        progress.phase(reading("backward", peak_bytes), ended)
    assert [(line["peak_allocated_bytes"], line["ended"]) for line in lines(capsys)] == [
        (1024, False), (4096, False), (4096, True), (8192, True),
    ]  # fmt: skip


def test_a_long_phase_is_looked_at_while_it_lasts(monkeypatch):
    class Loading:
        """A meter in the middle of a load that takes long."""

        def now(self):
            return reading("load", 1024)

    monkeypatch.setattr("planner.probe.progress.LOOK_SECONDS", 0.001)
    heard = threading.Event()
    with watching(Loading(), lambda seen, ended: heard.set() if seen.name == "load" and not ended else None):
        assert heard.wait(timeout=10)
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_every_line_is_whole_though_two_threads_speak(capsys):
    progress = Progress()

    def talk(name):
        for size_bytes in range(200):
            progress.phase(reading(name, size_bytes), False)

    threads = [threading.Thread(target=talk, args=(name,)) for name in ("load", "forward")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(capsys)) == 400
