"""The measures of `make bench`, in the order of its table. Each runs the benchmark of a file of its own."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import backfill
import idle
import in_flight
import lag
import memory
import reconcile
import startup
import waiting
import writers
from fast_endpoint import running_fast_endpoint
from figures import Figure, Measured
from lag import percentile

from pgvector_sync.runtime.bootstrap import open_runtime
from pgvector_sync.settings import Settings
from support.endpoint import Endpoint
from support.servers import running_postgres


def measure_backfill(*, quick: bool) -> Measured:
    rows, rounds = (10_000, 1) if quick else (20_000, 3)
    with running_postgres(18) as server, running_fast_endpoint() as endpoint:
        medians = backfill.medians([backfill.one_round(server, endpoint, rows) for _ in range(rounds)], rows)
    copy, sync, prefork, threads = medians.values()

    def speed(what: str, of: backfill.Median, before: str, reach: float | None = None) -> Figure:
        beside = f"{of.rows_per_second:,.0f} rows/s; COPY {copy.rows_per_second:,.0f}"
        return Figure(f"{what}: share of COPY's speed", of.of_copy, "", before, reach, True, beside)

    return Measured(
        [
            speed("Worker, prefork, 2", prefork, "0.19", 0.35),
            speed("Worker, threads, 4", threads, "0.15"),
            speed("`sync`", sync, "0.12", 0.32),
            Figure(
                "Worker, CPU per row",
                prefork.our_cpu,
                "µs",
                "220 µs",
                80,
                beside=f"threads {threads.our_cpu:.0f} µs",
            ),
            Figure("`sync`, CPU per row", sync.our_cpu, "µs", "176 µs", 80),
            Figure(
                "CPU of Postgres per row over COPY's, worker",
                prefork.postgres_over_copy,
                "times",
                "5 times",
                3.5,
                beside=f"{prefork.postgres_cpu:.0f} µs; COPY {copy.postgres_cpu:.0f} µs",
            ),
            Figure(
                "CPU of Postgres per row over COPY's, `sync`",
                sync.postgres_over_copy,
                "times",
                "5 times",
                3.5,
                beside=f"{sync.postgres_cpu:.0f} µs; COPY {copy.postgres_cpu:.0f} µs",
            ),
        ]
    )


def measure_in_flight(*, quick: bool) -> Measured:
    calls = (8,) if quick else (1, 2, 4, 8)
    with running_postgres(18) as server:
        points = list(in_flight.measured(server, processes=("worker",), calls=calls))
        (sync,) = in_flight.measured(server, processes=("sync",), calls=(8,))

    def share(what: str, of: in_flight.Point, before: str) -> Figure:
        return Figure(
            f"{what}, 8 calls in flight at {in_flight.LATENCY_MS:.0f} ms: share of what is possible",
            of.of_bound,
            "",
            before,
            0.85,
            True,
            f"{of.rows_per_second:,.0f} rows/s; at 0 ms {of.at_once:,.0f}",
        )

    return Measured(
        [share("Worker, threads", points[-1], "0.6"), share("`sync`", sync, "")],
        [(point.calls, point.rows_per_second) for point in points],
    )


def measure_writers(*, quick: bool) -> Measured:
    rows, rounds, singles = (5_000, 3, 500) if quick else (20_000, 5, 3_000)
    with running_postgres(18, **writers.SERVER) as server:
        bulk = writers.bulk(server, rows=rows, rounds=rounds)
        single = writers.single(server, statements=singles)
    known = (("6.8 µs", 5.5), ("8 to 14 µs", 6.5), ("18 µs", 7), ("21 to 24 µs", 10))
    figures = [
        Figure(
            f"{write.name}: extra time per row of a bulk statement",
            write.extra,
            "µs",
            before,
            reach,
            beside=f"without capture {write.bare:.1f} µs, noise {write.noise:.1f} µs",
        )
        for write, (before, reach) in zip(bulk, known, strict=True)
    ]
    for write, before in zip(single, ("1.0 to 1.1", "1.1 to 1.4"), strict=True):
        noise = write.noise / write.bare
        beside = f"without capture {write.bare:.0f} µs, noise {noise * 100:.0f} %"
        figures.append(
            Figure(
                f"{write.name}, over the bare table",
                write.ratio,
                "times",
                before,
                1 + max(noise, 0.05),
                beside=beside,
            )
        )
    return Measured(figures)


def measure_lag(*, quick: bool) -> Measured:
    figures = []
    known = {50: (("91 ms", 55), ("152 ms", 100)), 300: (("105 ms", 65), ("166 ms", 120))}
    with running_postgres(18, **lag.NOTING) as server:
        for rate, limits in known.items():
            lags = lag.flow(server, rate=rate, seconds=5 if quick else 20)
            for share, (before, reach) in zip((0.5, 0.99), limits, strict=True):
                what = f"Commit to vector at {rate} changes/s, p{share * 100:.0f}"
                figures.append(Figure(what, percentile(lags, share) * 1000, "ms", before, reach))
    return Measured(figures)


def measure_idle(*, quick: bool) -> Measured:
    figures = []
    known = {1: ("134", "2.7 %", 10, 0.5), 10: ("", "", 15, 0.8)}
    with running_postgres(18, **idle.COUNTING) as server:
        for pipelines, (statements, cpu, reach, reach_cpu) in known.items():
            cost = idle.idle(server, pipelines=pipelines, seconds=5 if quick else 20)
            name = f"Idle, {pipelines} pipeline{'s' if pipelines > 1 else ''}"
            beside = f"Postgres {cost.postgres * 100:.2f} %"
            figures += [
                Figure(f"{name}: statements per second", cost.statements, "", statements, reach),
                Figure(f"{name}: worker and beat, of a core", cost.ours * 100, "%", cpu, reach_cpu, beside=beside),
            ]
    return Measured(figures)


def measure_waiting(*, quick: bool) -> Measured:
    many = [30_000, 60_000] if quick else [30_000, 100_000, 300_000, 1_000_000]
    through, held = (20_000, 20_000) if quick else (300_000, 100_000)
    with running_postgres(18) as server, Endpoint() as endpoint:
        few, passed, snapshot, *filled = waiting.situations(
            server, endpoint, waiting=many, through=through, held=held, batches=40
        )

    def ratio(what: str, to: waiting.Situation, before: str, reach: float) -> Figure:
        batch, base = to.seconds["batch"], few.seconds["batch"]
        beside = f"{batch * 1000:.1f} ms; 10,000 waiting {base * 1000:.1f} ms"
        return Figure(f"SQL of a batch, {what}", batch / base, "times", before, reach, beside=beside)

    return Measured(
        [
            ratio(f"{many[-1]:,} rows waiting", filled[-1], "flat", 1.3),
            ratio(f"after {through:,} rows", passed, "", 1.3),
            ratio(f"a snapshot held over {held:,} rows", snapshot, "", 2),
        ],
        [(situation.waiting, situation.seconds["batch"] * 1000) for situation in (few, *filled)],
    )


def measure_memory(*, quick: bool) -> Measured:
    rows = 20_000 if quick else 150_000
    with running_postgres(18) as server:
        taken = memory.drained(server, rows)
    growth = f"{taken.early:.0f} MB in the second quarter of the time, {taken.late:.0f} MB in the last"
    what = f"Memory of a worker process, {rows:,} rows drained"
    return Measured([Figure(what, taken.most, "MB", "140 to 250 MB", 150, beside=growth)])


def measure_reconcile(*, quick: bool) -> Measured:
    rows, changes = (30_000, 10) if quick else (200_000, 60)
    with reconcile.table(rows) as (database, processes):
        with open_runtime(Settings(DATABASE_URL=database.url)) as runtime:
            speed = reconcile.speed(database, runtime)
        lags = reconcile.noticed(database, processes, rows, changes, "prefork")
    idle_p99, busy_p99 = (percentile(values, 0.99) * 1000 for values in (lags.idle, lags.busy))
    median = statistics.median(lags.busy) * 1000
    return Measured(
        [
            Figure(
                f"Deep reconcile of {rows:,} short rows, share of a bare scan's speed",
                speed.of_bare_scan("deep"),
                "",
                "0.36",
                0.5,
                True,
                f"{rows / speed.seconds['deep']:,.0f} rows/s",
            ),
            Figure(
                "p99 of a change's lag during a re-embed, over idle",
                lags.p99_ratio,
                "times",
                "2.6 times",
                2,
                beside=f"{busy_p99:.0f} ms, idle {idle_p99:.0f} ms; median {median:.0f} ms",
            ),
        ]
    )


def measure_startup(*, quick: bool) -> Measured:
    starts = startup.measure(3 if quick else 9)
    python = starts["python -c pass"]
    known = {"--help": ("0.7 s", 0.25), "status": ("0.8 s", 0.45)}
    return Measured(
        [
            Figure(
                f"Start of `{name}`",
                starts[name].elapsed,
                "s",
                before,
                reach,
                beside=f"CPU {starts[name].cpu:.2f} s; `python -c pass` {python.elapsed:.2f} s",
            )
            for name, (before, reach) in known.items()
        ]
    )


MEASURES: dict[str, Callable[..., Measured]] = {
    "backfill": measure_backfill,
    "in-flight": measure_in_flight,
    "writers": measure_writers,
    "lag": measure_lag,
    "idle": measure_idle,
    "waiting": measure_waiting,
    "memory": measure_memory,
    "reconcile": measure_reconcile,
    "startup": measure_startup,
}
