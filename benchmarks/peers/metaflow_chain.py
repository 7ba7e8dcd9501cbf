"""Ten steps of one number each, for Metaflow: ``python metaflow_chain.py run``."""

from metaflow import FlowSpec, step


class Chain(FlowSpec):
    @step
    def start(self):
        self.x = 0
        self.next(self.second)

    @step
    def second(self):
        self.x += 1
        self.next(self.third)

    @step
    def third(self):
        self.x += 1
        self.next(self.fourth)

    @step
    def fourth(self):
        self.x += 1
        self.next(self.fifth)

    @step
    def fifth(self):
        self.x += 1
        self.next(self.sixth)

    @step
    def sixth(self):
        self.x += 1
        self.next(self.seventh)

    @step
    def seventh(self):
        self.x += 1
        self.next(self.eighth)

    @step
    def eighth(self):
        self.x += 1
        self.next(self.ninth)

    @step
    def ninth(self):
        self.x += 1
        self.next(self.end)

    @step
    def end(self):
        self.x += 1


if __name__ == "__main__":
    Chain()
