"""The public face: what `import microscope_atlas` gives. Each name is imported when it is first asked for."""
