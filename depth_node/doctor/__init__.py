"""`depth-node doctor`: looks at the machine and the ROS graph and says why nothing arrives.

`machine.py` and `transport.py` need no ROS; `observe.py` listens to the graph and the `check_*`
modules judge what it saw.
"""
