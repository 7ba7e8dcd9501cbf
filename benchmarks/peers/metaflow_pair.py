"""Two steps, for Metaflow: what a run costs whatever it does. ``python metaflow_pair.py run``."""

from metaflow import FlowSpec, step


class Pair(FlowSpec):
    @step
    def start(self):
        self.x = 0
        self.next(self.end)

    @step
    def end(self):
        self.x += 1


if __name__ == "__main__":
    Pair()
