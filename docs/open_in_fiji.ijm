// Opens a refined volume in Fiji with its colours and voxel size: Plugins > Macros > Run…, then choose STEM_refined.tif.
// From a shell: ImageJ -macro docs/open_in_fiji.ijm refined/cell_refined.tif (on a machine without a screen, by xvfb-run)

path = getArgument();
if (path == "") path = File.openDialog("Choose STEM_refined.tif");
if (!endsWith(path, "_refined.tif")) exit("expected a file STEM_refined.tif, found " + path);
stem = substring(path, 0, lengthOf(path) - lengthOf("_refined.tif"));
names = newArray("initial", "refined", "entropy", "hidden");
setBatchMode(true);
for (i = 0; i < names.length; i++) {
    file = stem + "_" + names[i] + ".tif";
    if (File.exists(file)) {
        open(file);  // labels bring their colours with them
        if (names[i] == "entropy") run("Fire");
        if (names[i] == "hidden") run("Magenta");
        getVoxelSize(width, height, depth, unit);
        getDimensions(columns, rows, channels, slices, frames);
        print(names[i] + ": " + columns + " x " + rows + " x " + slices + " voxels of " + width + " x " + height + " x " + depth + " " + unit);
        if (slices > 1) setSlice(floor(slices / 2) + 1);
    }
}
setBatchMode("exit and display");
// Analyze > Tools > Synchronize Windows moves through all of them at once.
