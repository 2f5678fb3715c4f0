"""Count models as a reader of their definitions would work them out: dictionaries, one row and one rung at a time."""

from __future__ import annotations

from collections import Counter

from laborllm.models.counts import MODELS
from laborllm.models.ladder import Exclusion, OwnPast


def events(data):
    """What each row of a panel can be predicted from."""
    careers = {}
    for row in data.table.to_pylist():
        careers.setdefault(row["worker_id"], []).append(row)
    for rows in careers.values():
        born, gender = (next((r[name] for r in rows if r[name] is not None), None) for name in ("birth_year", "gender"))
        for t, row in enumerate(rows):
            past = [r["occupation"] for r in rows[:t]]
            tenure = 0
            while tenure < t and past[t - 1 - tenure] == past[-1]:
                tenure += 1
            yield {
                "occupation": row["occupation"],
                "past": past,
                "previous": past[-1] if past else None,
                "second": past[-2] if t > 1 else None,
                "before": past[t - 1 - tenure] if tenure < t else None,
                "tenure": min(tenure, 8),
                "gap": min(row["year"] - rows[t - 1]["year"], 3) if t else 0,
                "period": (row["year"] - 1900) // 5,
                "age": None if born is None else max(0, (row["year"] - born - 14) // 4),
                "gender": gender,
                "education": row["education"],
            }


def occupation(event):
    return event["occupation"]


def stayed(event):
    return event["occupation"] == event["previous"]


class Twin:
    """One model fitted on one panel."""

    def __init__(self, kind, train, params, titles):
        self.plans, self.params, self.titles = MODELS[kind].plans, params, titles
        rows = list(events(train))
        later = [e for e in rows if e["past"]]
        moves = [e for e in later if not stayed(e)]
        self.rows = {"first": [e for e in rows if not e["past"]], "next": later, "stay": later, "move": moves}
        everyone = self.shares(Counter(map(occupation, rows)), titles)
        if kind in {"uniform", "laplace"}:
            everyone = dict.fromkeys(titles, 1 / len(titles))
        arrivals = self.shares(Counter(k for _, k in {(e["previous"], e["occupation"]) for e in moves}), titles)
        stays = {True: 1.0, False: 0.0} if len(titles) == 1 else self.shares(Counter(map(stayed, later)), (True, False))
        self.base = {"first": everyone, "next": everyone, "stay": stays, "move": arrivals}

    @staticmethod
    def shares(counts, outcomes):
        total = sum(counts[k] + 0.5 for k in outcomes)
        return {k: (counts[k] + 0.5) / total for k in outcomes}

    def law(self, now):
        if not now["past"]:
            return self.climb("first", occupation, now)
        if "next" in self.plans:
            return self.climb("next", occupation, now)
        stay = self.climb("stay", stayed, now)[True]
        where = self.climb("move", occupation, now)
        return {k: stay if k == now["previous"] else (1 - stay) * p for k, p in where.items()}

    def climb(self, ladder, outcome, now):
        law = self.base[ladder]
        for rung in self.plans[ladder]:
            if isinstance(rung, Exclusion):
                law = {k: 0.0 if k == now["previous"] else p for k, p in law.items()}
                total = sum(law.values())
                law = {k: p / total if total else 0.0 for k, p in law.items()}
            elif isinstance(rung, OwnPast):
                law = self.shrink(law, self.own(now), self.params["own_backoff"], 0.0)
            else:
                here = [e for e in self.rows[ladder] if all(e[name] == now[name] for name in rung.by)]
                discount = self.params[f"{rung.name}_discount"] if rung.discounted else 0.0
                law = self.shrink(law, Counter(map(outcome, here)), self.params[f"{rung.name}_backoff"], discount)
        return law

    def own(self, now):
        counts = Counter()
        for ago, state in enumerate(reversed(now["past"])):
            counts[state] += self.params["own_retention"] ** ago * (state != now["previous"])
        return counts

    @staticmethod
    def shrink(law, counts, backoff, discount):
        removed = sum(min(n, discount) for n in counts.values())
        total = sum(counts.values()) + backoff
        return {k: (max(counts[k] - discount, 0) + (backoff + removed) * p) / total for k, p in law.items()}
