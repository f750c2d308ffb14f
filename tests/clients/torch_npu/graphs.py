"""Captured graphs of the client: replays, shared pools, side streams, updates of tasks, callables that replay a graph."""

import torch
import torch.nn as nn

from client import assert_close, check, main


def captured(work, **options):
    """A graph of what `work` does, and what `work` gives: it is overwritten by each replay."""
    side = torch.npu.Stream()
    side.wait_stream(torch.npu.current_stream())
    with torch.npu.stream(side):
        work()
    torch.npu.current_stream().wait_stream(side)
    graph = torch.npu.NPUGraph()
    with torch.npu.graph(graph, **options):
        result = work()
    return graph, result


@check
def graphs_replay_with_new_inputs():
    torch.manual_seed(0)
    weight = torch.randn(4, 4)
    device_weight, x = weight.npu(), torch.zeros(3, 4, device="npu")
    graph, result = captured(lambda: torch.relu(x @ device_weight) + 1)
    for _ in range(3):
        value = torch.randn(3, 4)
        x.copy_(value)
        graph.replay()
        assert_close(result, torch.relu(value @ weight) + 1)
    graph.reset()


@check
def graphs_share_a_pool():
    pool = torch.npu.graph_pool_handle()
    kept = []
    for rows in [4, 2, 1]:
        x = torch.ones(rows, 8, device="npu")
        kept.append((x, *captured(lambda x=x: (x * 2).softmax(-1) + x.sum(), pool=pool)))
    for x, graph, result in kept:
        value = torch.arange(float(x.numel())).reshape(x.shape) / 7
        x.copy_(value)
        graph.replay()
        assert_close(result, (value * 2).softmax(-1) + value.sum())


@check
def side_streams_join_a_graph():
    x = torch.ones(8, device="npu")
    side, graph = torch.npu.Stream(), torch.npu.NPUGraph()
    with torch.npu.graph(graph):
        doubled = x * 2
        side.wait_stream(torch.npu.current_stream())
        with torch.npu.stream(side):
            more = doubled + 1
        torch.npu.current_stream().wait_stream(side)
        result = more * 3
    x.fill_(5)
    graph.replay()
    assert_close(result, torch.full((8,), 33.0))


@check
def callables_become_graphs():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    value = torch.randn(4, 8)
    network(value).sum().backward()
    wanted = network[0].weight.grad
    copy = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    copy.load_state_dict(network.state_dict())
    copy = copy.npu()
    sample = torch.randn(4, 8, device="npu")
    graphed = torch.npu.make_graphed_callables(copy, (sample,))
    copy.zero_grad()
    graphed(value.npu()).sum().backward()
    assert_close(copy[0].weight.grad, wanted)


@check
def tasks_of_a_graph_are_updated():
    inputs = [torch.full((8,), float(value), device="npu") for value in range(3)]
    result, graph, event = torch.empty(8, device="npu"), torch.npu.NPUGraph(), torch.npu.ExternalEvent()
    with torch.npu.graph(graph):
        stream = torch.npu.current_stream()
        event.wait(stream)
        event.reset(stream)
        torch.npu.graph_task_group_begin(stream)
        torch.add(inputs[0], 1, out=result)
        handle = torch.npu.graph_task_group_end(stream)
    update = torch.npu.Stream()
    for value in inputs:
        graph.replay()
        with torch.npu.stream(update):
            torch.npu.graph_task_update_begin(update, handle)
            torch.add(value, 1, out=result)
            torch.npu.graph_task_update_end(update)
            event.record(update)
        torch.npu.synchronize()
        assert_close(result, value.cpu() + 1)


@check
def a_failed_capture_leaves_the_stream_usable():
    x = torch.ones(4, device="npu")
    graph = torch.npu.NPUGraph()
    try:
        with torch.npu.graph(graph):
            x.cpu()
        raise AssertionError("a copy to the host was captured")
    except RuntimeError:
        pass
    assert_close(x + 1, torch.full((4,), 2.0))


main()
