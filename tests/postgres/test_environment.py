"""What of our environment reaches libpq."""

from reconciler.postgres.environment import child_environment, forget_libpq_environment


def test_variables_of_libpq_are_forgotten() -> None:
    """All that begin with PG go, and no others."""
    environ = {"PGPASSWORD": "x", "PGSERVICEFILE": "/x", "PG_ANYTHING": "1", "PATH": "/bin", "PAGER": "less"}

    forget_libpq_environment(environ)

    assert {"PATH": "/bin", "PAGER": "less"} == environ


def test_a_childs_environment_is_built() -> None:
    """It holds what a client needs, in English, and nothing of ours beyond that."""
    ours = {"PATH": "/bin", "HOME": "/home/u", "AWS_SECRET_ACCESS_KEY": "x", "PGHOST": "evil", "LC_ALL": "es_ES.UTF-8"}

    built = child_environment("pw", ours)

    assert {"PATH": "/bin", "HOME": "/home/u", "LANG": "C.UTF-8", "LC_MESSAGES": "C", "PGPASSWORD": "pw"} == built
