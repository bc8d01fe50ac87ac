"""Launch files and presets name only what exists: arguments, files, parameters and topics."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from launch_fake import Context, install
from scipy.spatial.transform import Rotation
from test_parameters import flatten

from depth_node.domain import private_domain
from depth_node.parameters import Settings
from depth_node.world.drive import Mounts

LAUNCH_FILES = ("depth.launch.py", "webcam.launch.py", "demo.launch.py")
PRESETS = ("demo.yaml", "webcam.yaml", "nav2_voxel.yaml", "stvl.yaml", "rtabmap.yaml")
CONSUMERS = ("nav2_voxel.yaml", "stvl.yaml", "rtabmap.yaml")
OUTPUTS = {
    "depth/image_rect",
    "depth/camera_info",
    "depth/preview",
    "depth/relative",
    "image_rect",
    "points",
}


@pytest.fixture(params=LAUNCH_FILES)
def launch_tree(request: pytest.FixtureRequest, repo_root: Path) -> ast.Module:
    return ast.parse((repo_root / "launch" / request.param).read_text())


def calls(tree: ast.Module, function: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function:
            yield node


def first_strings(tree: ast.Module, function: str) -> set[str]:
    """The first argument of every call of `function` that has a literal there."""
    first = [call.args[0] for call in calls(tree, function)]
    return {arg.value for arg in first if isinstance(arg, ast.Constant)}


def constant(tree: ast.Module, name: str) -> Any:
    """The value of a module's constant."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise LookupError(name)


def preset(repo_root: Path, name: str) -> dict[str, Any]:
    tree = yaml.safe_load((repo_root / "config" / name).read_text())
    assert isinstance(tree, dict)
    return tree


def node_settings(repo_root: Path, name: str) -> Settings:
    tree = preset(repo_root, name)["/**/depth_node"]["ros__parameters"]
    return Settings().with_values(flatten(tree))


def test_every_launch_file_is_covered(repo_root: Path) -> None:
    assert {path.name for path in (repo_root / "launch").iterdir() if path.is_file()} == set(
        LAUNCH_FILES
    )


def test_every_argument_has_a_default_and_a_description(launch_tree: ast.Module) -> None:
    declared = list(calls(launch_tree, "DeclareLaunchArgument"))
    assert declared
    for call in declared:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        assert "default_value" in given
        assert ast.literal_eval(given["description"]).endswith(".")


def test_every_argument_that_is_used_is_declared(launch_tree: ast.Module) -> None:
    declared = first_strings(launch_tree, "DeclareLaunchArgument")
    assert first_strings(launch_tree, "LaunchConfiguration") <= declared


def test_arguments_that_set_a_parameter_name_one_that_exists(repo_root: Path) -> None:
    tree = ast.parse((repo_root / "launch/depth.launch.py").read_text())
    overrides = constant(tree, "OVERRIDES")
    assert overrides.keys() <= first_strings(tree, "DeclareLaunchArgument")
    assert set(overrides.values()) <= Settings().values().keys()


Started = Callable[..., list[Any]]


@pytest.fixture
def started(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """What depth.launch.py starts with these arguments, with these packages installed."""

    def start(*packages: str, **arguments: str) -> list[Any]:
        install(monkeypatch, {"depth_node", *packages}, repo_root)
        path = repo_root / "launch/depth.launch.py"
        module: dict[str, Any] = {"__name__": "depth_launch"}
        exec(compile(path.read_text(), str(path), "exec"), module)  # noqa: S102 - our own file
        description = module["generate_launch_description"]()
        return list(Context(description, arguments).started())

    return start


def given(action: Any) -> tuple[Any, dict[str, Any]]:
    """The params_file and the parameters that follow it of a node that a launch file starts."""
    params_file, overrides = action.parameters
    return params_file, overrides


def test_a_lidar_is_one_argument_that_replaces_what_any_params_file_says(started: Started) -> None:
    [node] = started(params_file="mine.yaml", lidar="/velodyne_points")
    assert node.package == "depth_node"
    params_file, overrides = given(node)
    assert params_file == "mine.yaml"  # what follows it replaces what it says
    assert overrides["lidar.enabled"] is True
    assert overrides["lidar.topic"] == "/velodyne_points"
    settings = Settings().with_values({n: v for n, v in overrides.items() if n != "use_sim_time"})
    assert settings.lidar.enabled
    [node] = started(cameras="front rear", image="image_raw", lidar="/velodyne_points")
    assert given(node)[1]["lidar.enabled"] is True


def test_without_the_argument_the_params_file_decides_about_the_lidar(started: Started) -> None:
    [node] = started()
    assert not [name for name in given(node)[1] if name.startswith("lidar.")]


@pytest.mark.ros
@pytest.mark.parametrize("name", [*PRESETS, "depth_node.yaml"])
@pytest.mark.parametrize("whose", ["/depth_node", "/**"])  # one camera, several: launch_ros' keys
def test_what_follows_a_preset_replaces_what_it_says(
    repo_root: Path, tmp_path: Path, name: str, whose: str
) -> None:
    rclpy = pytest.importorskip("rclpy")
    overrides = {"lidar.enabled": True, "lidar.topic": "/mine"}
    later = tmp_path / "later.yaml"
    later.write_text(yaml.safe_dump({whose: {"ros__parameters": overrides}}))
    files = [str(repo_root / "config" / name), str(later)]
    words = [word for file in files for word in ("--params-file", file)]
    context = rclpy.Context()
    with private_domain() as domain:
        rclpy.init(context=context, args=["--ros-args", *words], domain_id=domain)
        try:
            node = rclpy.create_node("depth_node", context=context)
            found = {key: value.value for key, value in node._parameter_overrides.items()}
            node.destroy_node()
        finally:
            context.try_shutdown()
    assert overrides.items() <= found.items()
    assert len(found) > len(overrides), "the preset is not heard"


def test_rviz_starts_where_it_is_wanted_and_installed(started: Started) -> None:
    assert [action.package for action in started("rviz2", rviz="true")] == ["depth_node", "rviz2"]
    assert [action.package for action in started("rviz2", rviz="false")] == ["depth_node"]


def test_a_robot_without_rviz_starts_the_node_and_says_what_is_missing(started: Started) -> None:
    node, told = started(rviz="true")
    assert node.package == "depth_node"
    assert "rviz2 is not installed" in told.msg


def test_files_that_launch_files_name_exist(launch_tree: ast.Module, repo_root: Path) -> None:
    suffixes = (".yaml", ".rviz", ".xml", ".launch.py")
    named = {
        node.right.value
        for node in ast.walk(launch_tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.right, ast.Constant)
        and str(node.right.value).endswith(suffixes)
    }
    assert named
    for name in named:
        folder = "launch" if name.endswith(".launch.py") else "config"
        assert (repo_root / folder / name).is_file(), name


def test_rviz_shows_topics_that_the_node_publishes_and_launch_remaps(repo_root: Path) -> None:
    rviz = preset(repo_root, "depth.rviz")["Visualization Manager"]
    displays = {display["Name"]: display for display in rviz["Displays"]}
    shown = {d["Topic"]["Value"].lstrip("/") for d in displays.values() if "Topic" in d}
    assert shown <= OUTPUTS
    tree = ast.parse((repo_root / "launch/depth.launch.py").read_text())
    assert set(constant(tree, "SHOWN")) == shown
    assert displays["Cloud"]["Color Transformer"] == "RGB8"
    assert rviz["Global Options"]["Fixed Frame"] == Settings().camera.frame_id


def test_fastdds_profile_gives_every_participant_a_segment_for_full_clouds(
    repo_root: Path,
) -> None:
    space = "{http://www.eprosima.com}"
    root = ElementTree.parse(repo_root / "config/fastdds.xml").getroot()  # noqa: S314 - our own
    transports = {
        t.findtext(f"{space}transport_id"): t for t in root.iter(f"{space}transport_descriptor")
    }
    [participant] = root.iter(f"{space}participant")
    assert participant.get("is_default_profile") == "true"
    assert participant.findtext(f".//{space}useBuiltinTransports") == "false"
    used = [t.text for t in participant.find(f".//{space}userTransports") or []]
    assert {transports[name].findtext(f"{space}type") for name in used} == {"SHM", "UDPv4"}
    [size] = [
        t.findtext(f"{space}segment_size")
        for t in root.iter()
        if t.find(f"{space}segment_size") is not None
    ]
    assert int(size or 0) == 32 * 2**20


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_values_that_the_node_accepts(repo_root: Path, name: str) -> None:
    node_settings(repo_root, name)


@pytest.mark.parametrize("name", CONSUMERS)
def test_presets_for_consumers_name_sources_of_metres_that_the_node_accepts(
    repo_root: Path, name: str
) -> None:
    text = (repo_root / "config" / name).read_text()
    assert "lidar:=/" in text.partition("/**/depth_node:")[0]
    suggested = re.findall(r"^    # +((?:lidar|ground): \{.*\})$", text, re.MULTILINE)
    assert {line.partition(":")[0] for line in suggested} == {"lidar", "ground"}
    for line in suggested:
        tree = yaml.safe_load(line)
        [group] = tree
        assert getattr(Settings().with_values(flatten(tree)), group).enabled


def test_webcam_preset_opens_a_webcam(repo_root: Path) -> None:
    assert node_settings(repo_root, "webcam.yaml").camera.source == "webcam"


@pytest.mark.parametrize(
    ("launch_file", "name"), [("demo.launch.py", "demo.yaml"), ("webcam.launch.py", "webcam.yaml")]
)
def test_a_launch_file_gives_the_node_its_preset(
    repo_root: Path, launch_file: str, name: str
) -> None:
    tree = ast.parse((repo_root / "launch" / launch_file).read_text())
    [default] = [
        ast.unparse(keyword.value)
        for call in calls(tree, "DeclareLaunchArgument")
        if ast.unparse(call.args[0]) == "'params_file'"
        for keyword in call.keywords
        if keyword.arg == "default_value"
    ]
    assert default == f"str(SHARE / 'config' / '{name}')"
    [included] = calls(tree, "IncludeLaunchDescription")
    [passed] = [k.value for k in included.keywords if k.arg == "launch_arguments"]
    assert "'params_file': LaunchConfiguration('params_file')" in ast.unparse(passed)


def test_the_demo_takes_metres_from_the_lidar_of_the_world_where_it_is_mounted(
    repo_root: Path,
) -> None:
    settings = node_settings(repo_root, "demo.yaml")
    assert settings.scale.source == "auto"
    assert settings.lidar.enabled
    assert settings.lidar.topic == "/lidar/points"
    values = [float(word) for word in settings.lidar.extrinsics.split()]
    expected = Mounts().camera_to("lidar")
    np.testing.assert_allclose(values[:3], expected[:3, 3], atol=1e-6)
    rotation = Rotation.from_euler("xyz", values[3:]).as_matrix()
    np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-6)


@pytest.mark.parametrize("name", ["nav2_voxel.yaml", "stvl.yaml"])
def test_costmap_presets_read_the_cloud_within_the_range_of_the_node(
    repo_root: Path, name: str
) -> None:
    settings = node_settings(repo_root, name)
    costmap = preset(repo_root, name)["local_costmap"]["local_costmap"]["ros__parameters"]
    layer = costmap[costmap["plugins"][0]]
    sources = {source: layer[source] for source in layer["observation_sources"].split()}
    assert {(s["marking"], s["clearing"]) for s in sources.values()} == {
        (True, False),
        (False, True),
    }
    for source in sources.values():
        assert source["topic"] == "/points"
        assert source["data_type"] == "PointCloud2"
        for limit in ("obstacle_max_range", "obstacle_range", "raytrace_max_range", "max_z"):
            assert source.get(limit, 0.0) < settings.depth.max_m


def test_nav2_preset_clears_along_rays_that_hit_nothing(repo_root: Path) -> None:
    settings = node_settings(repo_root, "nav2_voxel.yaml")
    assert settings.points.far_points == "clamp"
    tree = preset(repo_root, "nav2_voxel.yaml")["local_costmap"]["local_costmap"]
    clear = tree["ros__parameters"]["voxel_layer"]["depth_clear"]
    # A far point in the sky or below the floor must survive the height filter to clear.
    assert clear["min_obstacle_height"] < -settings.depth.max_m
    assert clear["max_obstacle_height"] > settings.depth.max_m


def test_rtabmap_preset_keeps_colour_and_depth_alike(repo_root: Path) -> None:
    assert node_settings(repo_root, "rtabmap.yaml").depth.downscale == 1
    for node in ("/**/rgbd_odometry", "/**/rtabmap"):
        parameters = preset(repo_root, "rtabmap.yaml")[node]["ros__parameters"]
        assert parameters["approx_sync"] is False
        # RTAB-Map declares its own parameters, the ones with a slash, as strings.
        assert all(isinstance(v, str) for name, v in parameters.items() if "/" in name)
