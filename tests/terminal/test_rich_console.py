import sys
import threading

from paretune.terminal import echo
from paretune.terminal.rich_console import drop_output_of


def test_what_one_thread_prints_is_dropped_and_all_else_stays(capsys):
    def shout():
        sys.stdout.write("a log of twenty lines\n")

    def speak(name):
        thread = threading.Thread(target=shout, name=name)
        thread.start()
        thread.join()

    with drop_output_of("library"):
        speak("library")
        echo("ours")
        speak("another")
    speak("library")
    assert capsys.readouterr().out.splitlines() == ["ours", *["a log of twenty lines"] * 2]
