"""Fewer views are further from all."""

from tools import statistics_views


def test_how_many_views_are_enough(trained, monkeypatch, capsys):
    monkeypatch.setattr(statistics_views, "TRIED", (2, 8, 10**6))
    monkeypatch.setattr(statistics_views, "DRAWS", 2)
    assert statistics_views.main([str(trained)]) == 0
    head, *rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert head[:3] == ["views", "rms", "AUROC"] and [row[0] for row in rows] == ["2", "8"], "more views than there are"
    assert float(rows[0][1]) > float(rows[1][1]) > 0, "fewer views are further from all"
    assert statistics_views.main([str(trained / "absent")]) == 1
    assert "absent" in capsys.readouterr().err
