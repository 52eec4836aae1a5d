"""The app: recipe, pipeline, command line. The only place where the packages meet."""
