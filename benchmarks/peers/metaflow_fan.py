"""A step for each of some items, and their sum, for Metaflow: ``python metaflow_fan.py run --items 100``."""

from metaflow import FlowSpec, Parameter, step


class Fan(FlowSpec):
    items = Parameter("items", default=100)

    @step
    def start(self):
        self.xs = list(range(self.items))
        self.next(self.work, foreach="xs")

    @step
    def work(self):
        self.y = self.input + 1
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(each.y for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Fan()
