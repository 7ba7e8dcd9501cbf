"""Ten tasks one after the other, two of them, and a task for each of some items with their sum, for Airflow."""

import os

from airflow.sdk import dag, task


@task
def add(x):
    return x + 1


@task
def total(xs):
    return sum(xs)


@dag(schedule=None)
def chain():
    x = 0
    for _ in range(10):
        x = add(x)


@dag(schedule=None)
def pair():
    add(add(0))


@dag(schedule=None)
def fan():
    total(add.expand(x=list(range(int(os.environ.get("ITEMS", "100"))))))


chain()
pair()
fan()
